"""The composition root. Importing it registers the Celery application."""

from gatewaysite.celery import app as celery_app

__all__ = ["celery_app"]
