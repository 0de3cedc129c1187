"""Parts of the app around every page: login, address, style and presenter mode."""
