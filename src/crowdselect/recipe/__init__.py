"""The whole chain from one file: a recipe is a graph of steps, each one command in its own process.

reading      a TOML file to tables of options, which are click's; lists to sweeps; titles of steps
graph        tables to steps, each with the steps it needs
store        the folder of results: the steps' keys, which are done, one run at a time
needs        checks before a run, of earlier steps' outputs and of this machine
running      runs the steps in order, each as a process with a log; plans
results      the results, one row per run; page: the same as HTML
command      the command, and an example recipe
"""
