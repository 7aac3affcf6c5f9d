"""The fakes and the contract suites for plugin authors."""
