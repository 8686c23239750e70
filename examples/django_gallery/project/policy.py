"""A content security policy under which the page that watches a job works."""

POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'"
)


def only_own_scripts(get_response):
    """Middleware: no script, style or picture of others. The admin of Django has the same needs."""

    def answer(request):
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return answer
