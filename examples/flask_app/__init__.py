"""A Flask application with an endpoint: `flask --app examples.flask_app.app run`."""
