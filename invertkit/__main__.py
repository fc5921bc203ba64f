"""`python -m invertkit`."""

from invertkit.cli import main

if __name__ == "__main__":
    main()
