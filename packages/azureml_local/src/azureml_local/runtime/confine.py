"""Put this process where an instance belongs, then become the instance.

confine.py [--group FILE]... [--cpus N,N...] -- COMMAND...

Nothing of the deployment's runs before this has ended, so no process of an instance is ever outside of its limits.
Run by the plane's own Python with -I -S; it imports nothing else.
"""

import os
import sys


def main(arguments: list[str]) -> None:
    command = arguments[arguments.index("--") + 1 :]
    options = iter(arguments[: arguments.index("--")])
    for option in options:
        value = next(options)
        try:
            if option == "--group":
                with open(value, "w") as stream:
                    # The writer itself, by cgroups(7).
                    stream.write("0")
            elif option == "--cpus":
                os.sched_setaffinity(0, {int(number) for number in value.split(",")})
        except OSError as error:
            sys.exit(
                f"azureml-local: {option} {value}: {error.strerror}; the instance is not started without its limit"
            )
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
