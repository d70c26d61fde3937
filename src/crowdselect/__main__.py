"""`python -m crowdselect`, which launchers of several processes need: `accelerate launch -m crowdselect ...`."""

from crowdselect.cli.main import main

if __name__ == "__main__":
    main()
