"""What is looked at for each rule. A check returns what was seen, or raises Broken."""
