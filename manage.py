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
    if sys.argv[1:2] == ["serve_parent"]:  # `serve`, once it needs Django no more
        from gatewaysite.parent import main as parent  # noqa: PLC0415

        sys.exit(parent(sys.argv[2:]))
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415 - Django's own order
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as problem:
        # A variable that does not parse is the operator's business: its sentence is all there is to say.
        if "--traceback" in sys.argv:
            raise
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
