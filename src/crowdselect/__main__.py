"""`python -m crowdselect`, as multi-process launchers call it: `accelerate launch -m crowdselect ...`."""

from crowdselect.cli.main import main

if __name__ == "__main__":
    main()
