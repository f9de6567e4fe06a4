"""`python -m refold`: the command `refold`."""

from refold.cli.main import main

if __name__ == "__main__":
    main()
