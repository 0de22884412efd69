"""Tests are no package: their own modules are found beside them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
