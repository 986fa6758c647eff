"""How people sign in: password, OpenID Connect, second factor. django-allauth does the work."""
