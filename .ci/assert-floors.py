"""Fails unless each dependency is installed in the oldest release that pyproject.toml admits."""

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
requirements = project["dependencies"] + extras["api"] + extras["tasks"]

for requirement in requirements:
    name, floor = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
    installed = version(name)
    print(f"{name} {installed}")
    if re.sub(r"(\.0)+$", "", installed) != floor:
        sys.exit(f"{requirement} is to be tested with its floor, not with {installed}")
