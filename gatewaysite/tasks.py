"""Keeps the audit log sealed."""

from celery import shared_task

from config.jobs import job
from gatewaysite.audit_chain import seal_new


@shared_task(name="gatewaysite.tasks.seal_audit_log")
@job(
    "seal-audit-log",
    title="Seal the audit log",
    does="Seals entries of the audit log that a crash has left without a seal.",
)
def seal_audit_log() -> str:
    """Seal what has no seal. Safe to run at any time."""
    sealed = seal_new()
    return f"{sealed:,} {'entry' if sealed == 1 else 'entries'} sealed" if sealed else ""
