"""Django settings of the gateway, derived from one `Environment` value.

Nothing here is read on the hot path except through `settings.GATEWAY`, which is frozen.
"""

from pathlib import Path
from typing import Any

import environ
from django.templatetags.static import static
from django.urls import reverse_lazy

from config import vault
from gatewaysite.content_policy import POLICY
from gatewaysite.environment import read_environment
from gatewaysite.logs import configure_logging
from gatewaysite.sidebar import SIDEBAR

BASE_DIR = Path(__file__).resolve().parent.parent
GATEWAY = read_environment()
GATEWAY_RELEASE = "0.1.0"
GATEWAY.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

SECRET_KEYS = GATEWAY.secret_keys or vault.keys_from_file(GATEWAY.data_dir / "secret.key")
SECRET_KEY = SECRET_KEYS[0]
SECRET_KEY_FALLBACKS = list(SECRET_KEYS[1:])
DEBUG = False
ALLOWED_HOSTS = ["*"]  # the Host header decides nothing: every link is built from APP_BASE_URL
LOGIN_URL = "account_login"
ROOT_URLCONF = "gatewaysite.urls"
ASGI_APPLICATION = "gatewaysite.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
AUDITLOG_CID_HEADER = None  # a header of the browser's choice has no place in the audit log
AUDITLOG_USE_FK_STRING_REPRESENTATION = True  # "tenant: acme", not "tenant: 7"

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.inlines",
    "gatewaysite.admin_app.AdminConfig",  # django.contrib.admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "rest_framework",
    "drf_spectacular",
    "django_filters",
    "auditlog",
    "channels",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.mfa",
    "config",
    "providers",
    "keys",
    "proxy",
    "analytics",
    "gatewaysite",
]
# The control plane's middleware. The data plane's lane runs none of it.
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "gatewaysite.static_files.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "gatewaysite.audit_middleware.AuditMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "gatewaysite.accounts.second_factor.RequireSecondFactor",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gatewaysite.accounts.context.accounts",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Sign-in (docs/access.md).
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
ACCOUNT_ADAPTER = "gatewaysite.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {"login": "gatewaysite.accounts.forms.SignInForm"}
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_UNIQUE_EMAIL = False  # addresses are the administrators' and the issuer's, not for people to claim
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "/accounts/login/"
# Counted in CACHES. "key" is the name that was tried; gatewaysite.accounts.pages tells when to come back.
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/5m/key",
    "reauthenticate": "10/m/user",
    "change_password": "5/m/user",
}
SOCIALACCOUNT_ADAPTER = "gatewaysite.accounts.single_sign_on.SocialAdapter"
# A form would be kept from leaving our site by form-action of the Content-Security-Policy; whom a link sends
# to the issuer is only signed in as whoever they are there.
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {
    "openid_connect": {
        "provider_class": "gatewaysite.accounts.single_sign_on.Issuer",
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "sso",
                "name": GATEWAY.oidc_name,
                "client_id": GATEWAY.oidc_client_id,
                "secret": GATEWAY.oidc_client_secret,
                "settings": {"server_url": GATEWAY.oidc_issuer.rstrip("/")},
            }
        ]
        if GATEWAY.oidc_issuer
        else [],
    }
}
MFA_ADAPTER = "gatewaysite.accounts.second_factor.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_TOTP_TOLERANCE = 1  # a clock may be half a minute off


def _database() -> dict[str, Any]:
    """SQLite in the data directory, or what DATABASE_URL names."""
    if not GATEWAY.database_url or GATEWAY.database_url.startswith("sqlite"):
        path = GATEWAY.database_url.partition(":///")[2] or str(GATEWAY.data_dir / "gateway.sqlite3")
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            "OPTIONS": {
                # IMMEDIATE: a transaction that will write waits for the lock at its start
                # instead of failing in its middle.
                "transaction_mode": "IMMEDIATE",
                "timeout": 5,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
            "TEST": {"NAME": None},
        }
    parsed: dict[str, Any] = environ.Env.db_url_config(GATEWAY.database_url)
    parsed["CONN_MAX_AGE"] = 60
    parsed["CONN_HEALTH_CHECKS"] = True
    parsed.setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
    return parsed


DATABASES = {"default": _database()}

CACHES = {
    "default": (
        {
            "BACKEND": "gatewaysite.control_cache.ControlCache",
            "LOCATION": GATEWAY.redis_url,
            "KEY_PREFIX": "control",
            "OPTIONS": {"IGNORE_EXCEPTIONS": True},
        }
        if GATEWAY.redis_url
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    ),
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = POLICY
_HTTPS = GATEWAY.app_base_url.startswith("https://")
SESSION_COOKIE_SECURE = _HTTPS
CSRF_COOKIE_SECURE = _HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _HTTPS else None
# TLS ends at a proxy in front of us: redirecting to HTTPS and promising it for months (HSTS) are its
# to decide, because plain HTTP on the inner network is a supported way to reach the API.
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008"]
CSRF_TRUSTED_ORIGINS = [GATEWAY.app_base_url.rstrip("/")] if GATEWAY.app_base_url else []

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
# Files are served from where they are; there is no STATIC_ROOT and nothing to collect.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False


# Without EMAIL_URL every mail is refused, by a backend that says so.
_MAIL: dict[str, Any] = environ.Env.email_url_config(GATEWAY.email_url) if GATEWAY.email_url else {}
EMAIL_BACKEND = _MAIL.get("EMAIL_BACKEND", "config.mail.NotConfigured")
EMAIL_HOST = _MAIL.get("EMAIL_HOST") or "localhost"
EMAIL_HOST_USER = _MAIL.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = _MAIL.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS = bool(_MAIL.get("EMAIL_USE_TLS"))
EMAIL_USE_SSL = bool(_MAIL.get("EMAIL_USE_SSL"))
EMAIL_PORT = _MAIL.get("EMAIL_PORT") or (587 if EMAIL_USE_TLS else 465 if EMAIL_USE_SSL else 25)
EMAIL_FILE_PATH = _MAIL.get("EMAIL_FILE_PATH") or None
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = GATEWAY.email_from

CELERY_BROKER_URL = GATEWAY.celery_broker_url or None
CELERY_TASK_ALWAYS_EAGER = not GATEWAY.celery_broker_url
CELERY_TASK_EAGER_PROPAGATES = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A publish that cannot reach its broker gives up: the shipper owns retry and backoff.
CELERY_TASK_PUBLISH_RETRY = False
# A frozen broker is a broker that is down: no publish waits longer than this.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 120,
    "socket_connect_timeout": 5,
    "socket_timeout": 10,
}
CELERY_TIMEZONE = "UTC"

# Celery beat's schedule; without a broker the shipper ticks it.
CELERY_BEAT_SCHEDULE = {
    "refresh-model-lists": {"task": "providers.tasks.refresh_model_lists", "schedule": 15.0},
    "write-builtin-prices": {"task": "providers.tasks.write_builtin_prices", "schedule": 60.0},
    "tell-of-budgets": {"task": "keys.tasks.tell_of_budgets", "schedule": 5.0},
    # What no booking has moved: a limit that was lowered, a raise that has ended.
    "look-through-budgets": {"task": "keys.tasks.look_through_budgets", "schedule": 60.0},
    "seal-audit-log": {"task": "gatewaysite.tasks.seal_audit_log", "schedule": 60.0},
    "purge-receipts": {"task": "analytics.tasks.purge_receipts", "schedule": 3600.0},
    "purge-payloads": {"task": "analytics.tasks.purge_payloads", "schedule": 600.0},
    "check-rollups": {"task": "analytics.tasks.check_rollups", "schedule": 3600.0},
    "apply-retention": {"task": "analytics.tasks.apply_retention", "schedule": 3600.0},
    # What living workers have not freed by themselves.
    "sweep-holds": {"task": "proxy.tasks.sweep_holds", "schedule": 60.0},
    # Looks whether it is due, and whether everybody has got it.
    "daily-report": {"task": "analytics.tasks.send_daily_report", "schedule": 300.0},
}

CHANNEL_LAYERS = {
    "default": (
        {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [GATEWAY.redis_url]}}
        if GATEWAY.redis_url
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    ),
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "proxy.api.errors.enveloped",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "LLM gateway: management API",
    "DESCRIPTION": "Everything that operators and tenants do in a browser, for programs. Money is US dollars "
    "as decimal text, exact to the nano-dollar. Errors are always {error: {message, type, param, code}}.",
    "VERSION": GATEWAY_RELEASE,
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["gatewaysite.api.describing.strict_requests"],
}

UNFOLD = {
    "SITE_TITLE": "LLM gateway",
    "SITE_HEADER": "LLM gateway",
    "SITE_SYMBOL": "hub",
    "SITE_URL": "/",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("favicon.svg")},
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "proxy.admin_status.configuration_badge",
    "DASHBOARD_CALLBACK": "gatewaysite.home.page.overview",
    "STYLES": [lambda _request: static("gateway.css")],
    "SIDEBAR": SIDEBAR,
    "ACCOUNT": {
        "navigation": [
            {"title": "Second factor", "link": reverse_lazy("mfa_index")},
            {"title": "Change password", "link": reverse_lazy("account_change_password")},
        ]
    },
}

# Called with every finished Completion on the event loop, by dotted path: each must be quick, and not wait.
# One whose `watched` is false need not be called.
COMPLETION_OBSERVERS: list[str] = ["analytics.live.feed.FEED"]
# Asked of a person before a WebSocket tells them anything: no middleware of Django's runs before it.
SECOND_FACTOR_IS_MISSING = "gatewaysite.accounts.second_factor.lacks_second_factor"
REQUEST_LOG = "gatewaysite.logs.log_request"
# Tells which segments of the spool are in the database.
SPOOL_RECEIPTS = "analytics.receipts.arrived"
# Dotted paths to classes (docs/middleware.md); nothing here costs nothing.
REQUEST_MIDDLEWARE = GATEWAY.request_middleware
RESPONSE_MIDDLEWARE = GATEWAY.response_middleware

LOGGING_CONFIG = None
configure_logging(GATEWAY.log_level, GATEWAY.log_format)
