"""`python -m hub.cli`: the same as `hub`."""

from hub.cli.main import main

if __name__ == "__main__":
    main()
