"""A share of CPython's own tests of sockets, selectors and socket servers, as run by test_cpython.py: prints one line a test.

usage: cpython_suite.py HOST INDEX COUNT       every COUNTth class of tests, beginning with the INDEXth; HOST: who to talk to
       cpython_suite.py HOST TEST…             these tests
"""
import importlib
import sys
import threading
import unittest

from test import support
from test.support import socket_helper

MODULES = ("test_socket", "test_selectors", "test_socketserver")


class OneLine(unittest.TestResult):
    def say(self, outcome, test):
        print(outcome, test.id(), flush=True)

    def addSuccess(self, test):
        self.say("passed", test)

    def addSkip(self, test, reason):
        self.say("skipped", test)

    def addFailure(self, test, error):
        self.say("failed", test)
        print(f"# {self._exc_info_to_string(error, test)}".replace("\n", "\n# "), flush=True)

    addError = addFailure

    def addExpectedFailure(self, test, error):
        self.say("expected-failure", test)

    def addUnexpectedSuccess(self, test):
        self.say("unexpected-success", test)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(subtest, error)


def main(host, *chosen):
    socket_helper.HOST = host
    socket_helper.bind_port.__defaults__ = (host,)
    result = OneLine()
    classes = []
    for name in MODULES:
        module = importlib.import_module(f"test.{name}")
        classes += [value for _, value in sorted(vars(module).items())
                    if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == module.__name__
                    and "VSOCK" not in value.__name__.upper()]
        if hasattr(module, "setUpModule"):
            module.setUpModule()
    support.use_resources = ["network"]  # socket servers count as such; nothing here leaves the machine
    loader = unittest.defaultTestLoader
    if chosen[0].isdigit():
        index, count = map(int, chosen)
        suites = [loader.loadTestsFromTestCase(cases) for cases in classes[index::count]]
    else:
        suites = [loader.loadTestsFromNames(chosen)]
    for suite in suites:
        suite.run(result)
    for name in MODULES:
        module = sys.modules[f"test.{name}"]
        if hasattr(module, "tearDownModule"):
            module.tearDownModule()
    unittest.doModuleCleanups()
    print("# done", threading.active_count())


if __name__ == "__main__":
    main(*sys.argv[1:])
