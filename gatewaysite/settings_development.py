"""`manage.py runserver`: the same gateway with daphne's reloading server and DEBUG on."""

from gatewaysite.settings import *  # noqa: F403 - settings modules extend one another

DEBUG = True
INSTALLED_APPS = ["daphne", *INSTALLED_APPS]  # noqa: F405 - from the star import

if not GATEWAY.email_url:  # noqa: F405 - the same
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
