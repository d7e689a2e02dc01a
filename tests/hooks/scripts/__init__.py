"""Scripts of the reference, as files."""

from pathlib import Path
from typing import Final

# The push guide's example: its calls and its order, with texts of our own.
GUIDE: Final = Path(__file__).parent / "onPreSave.js"
