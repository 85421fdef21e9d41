"""Copy the first figure of an executed notebook into a PNG file.

usage: python book/readme_figure.py NOTEBOOK PNG
"""

import base64
import sys
from pathlib import Path

import nbformat

notebook, target = map(Path, sys.argv[1:])
outputs = [output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", [])]
figures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
target.write_bytes(base64.b64decode(figures[0]))
