"""Settings, under the names that Celery gives them."""

task_default_queue = "shop"
task_routes = {
    "shop.mail.*": {"queue": "mail"},
    "shop.reports.*": "reports",
}
task_soft_time_limit = 30
task_time_limit = 60
result_expires = 24 * 60 * 60
timezone = "Europe/Berlin"
