"""`python -m diptych`, which is what torchrun starts: `torchrun --nproc-per-node 2 -m diptych train ...`."""

from diptych.cli.main import main

if __name__ == "__main__":
    main()
