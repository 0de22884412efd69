"""What frameworks that look at images share: reading them, the loop over them, pictures of what was found."""
