"""Say how much was tried."""


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "fuzz":
                terminalreporter.write_line(f"fuzz: {text}")
