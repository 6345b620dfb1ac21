"""`python -m hybridface`."""

from hybridface.cli import main

if __name__ == "__main__":
    main()
