"""`python -m pipeline.cli` is `wapipe`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
