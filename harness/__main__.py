"""``python -m harness``, and the command ``harness``."""

import sys


def main() -> None:
    """The command line, once it is sure that its own packages are found."""
    from harness.foreign_packages import check_packages

    try:
        check_packages()
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    from harness.cli.main import main as command_line

    command_line()


if (
    __name__ == "__main__"
):  # worker processes import this module under another name, and need nothing of it
    main()
