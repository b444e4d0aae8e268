"""`nps`, and `python -m nps_cli`."""

from nps_cli.process import end_if_stopped, handle_signals, open_closed_streams


def main(argv: list[str] | None = None) -> None:
    """Run `nps` as a process of its own; raise SystemExit as `nps_cli.app.main` does."""
    handle_signals()
    open_closed_streams()
    try:
        from nps_cli.app import main as run

        run(argv)
    finally:
        end_if_stopped()


if __name__ == "__main__":
    main()
