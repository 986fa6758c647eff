"""The Celery application. Without a broker tasks run inline where they are called."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")
# Celery would have Django check everything at each start, for which every screen is loaded, and kept.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")
app = Celery("gateway")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
