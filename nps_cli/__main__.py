"""`python -m nps_cli` is `nps`."""

from nps_cli.app import main

main()
