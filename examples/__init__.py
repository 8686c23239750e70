"""Small complete applications: handlers for the simulator, a Django project, a Flask app."""
