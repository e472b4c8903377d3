"""Commands about models: list, show, convert, export, embed, runtimes, mean of results."""
