"""Print the oldest versions that setup.cfg allows, as constraints for pip.

    python -m tools.oldest_versions train pose > oldest.txt
    pip install --constraint oldest.txt -e ".[train,pose]"

The arguments are extras; the core's requirements are always there.
"""

import configparser
import re
import sys
from collections.abc import Sequence
from pathlib import Path

SETUP = Path(__file__).parents[1] / "setup.cfg"
LOWER_BOUND = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?(?:>=|==)([\w.]+)")


def requirements(extras: Sequence[str], path: Path = SETUP) -> list[str]:
    """Those of the core and of `extras`, without this package's own extras within them.

    Raises:
      ValueError: there is no such extra.
    """
    setup = configparser.ConfigParser()
    setup.read(path)
    options = setup["options.extras_require"]
    strange = [extra for extra in extras if extra not in options]
    if strange:
        raise ValueError(f"extra {strange[0]!r} given, expected one of {', '.join(options)}")
    lists = [setup["options"]["install_requires"], *(options[extra] for extra in extras)]
    found = [line for lines in lists for line in lines.split("\n") if line]
    return [line for line in found if not line.startswith(f"{setup['metadata']['name']}[")]


def oldest(requirement: str) -> str:
    """A requirement's lower bound as a constraint: "jax[cuda13]>=0.10" gives "jax==0.10".

    Raises:
      ValueError: it has none.
    """
    found = LOWER_BOUND.fullmatch(requirement)
    if found is None:
        raise ValueError(f"requirement {requirement!r} has no lower bound, expected NAME>=VERSION")
    return "==".join(found.groups())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the constraints; 0, or 2 after one line on stderr."""
    try:
        lines = list(dict.fromkeys(map(oldest, requirements(sys.argv[1:] if arguments is None else arguments))))
    except ValueError as error:
        print(f"oldest_versions: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
