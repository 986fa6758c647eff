#!/usr/bin/env python3
"""Django's command line for the gateway."""

import os
import sys


def main() -> None:
    """Run one management command; `runserver` uses the development settings (daphne)."""
    development = len(sys.argv) > 1 and sys.argv[1] == "runserver"
    os.environ.setdefault(
        "DJANGO_SETTINGS_MODULE",
        "gatewaysite.settings_development" if development else "gatewaysite.settings",
    )
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - Django's own order

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
