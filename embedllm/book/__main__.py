"""`python -m embedllm.book FOLDER`: check that every page of ``_toc.yml`` was written."""

import sys
from pathlib import Path

from embedllm.book.contents import check_pages

sys.exit(check_pages(Path(sys.argv[1])))
