"""python -m unlabeled: the command `unlabeled`, where it is not on the path."""

from unlabeled.console import main

if __name__ == "__main__":
    main()
