"""`python -m crowdselect`, which launchers of several processes need: `accelerate launch -m crowdselect ...`."""

from crowdselect.cli import main

if __name__ == "__main__":
    main()
