"""`python -m refold`: the command `refold`."""

from refold.cli.main import cli

if __name__ == "__main__":
    cli(prog_name="refold")
