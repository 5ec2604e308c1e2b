"""A made-up shop at work, to see the dashboard and ``nuvom top`` with something in them."""
