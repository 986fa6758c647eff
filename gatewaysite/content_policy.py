"""The Content-Security-Policy of all pages: nothing comes from elsewhere, and no script stands in a page.

A page puts its scripts into static files and its data into `json_script`.
"""

from csp.constants import NONCE, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE

POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        # Alpine, which unfold's menus, tabs and dialogs are made with, compiles the expressions in their
        # attributes by `new Function`; its build that does not allows too few expressions for unfold's.
        "script-src": [SELF, UNSAFE_EVAL],
        # The theme's colours stand in a style element of unfold's (templates/unfold/layouts/skeleton.html).
        "style-src-elem": [SELF, NONCE],
        # Alpine and select2 set style attributes. One can move things about, and run nothing.
        "style-src-attr": [UNSAFE_INLINE],
        # data: is the code that authenticator apps scan, and the landing page's icon.
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        # The playground, and the live feed: 'self' covers WebSockets of the same host (CSP 3).
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}
