"""`python -m mqttpush`."""

from mqttpush.cli import main

if __name__ == "__main__":
    main()
