"""A task of the Task Scheduler: the daemon starts when its account logs on. Texts are made by pure functions.

Contract of the task:

* It runs as this account, with the rights of an ordinary program (``LeastPrivilege``), in the log-on of the person
  (``InteractiveToken``): there DPAPI and Credential Manager open, which they do not for a task that runs without a
  log-on (S4U). No password is stored for it.
* One daemon at a time, no end after three days (which is the default), and not only while the machine is idle or on
  mains. If it fails, it is started again, each minute, at most 10 times in a row.
* No window: the interpreter is ``pythonw.exe`` where there is one beside ``python.exe``. Its log goes to ``daemon.log``
  (``daemon.logfile``), for it has no standard error.

The definition is written as a file, because ``schtasks`` takes one; it stays, as what ``install --check`` compares.
"""

from __future__ import annotations

import subprocess
from xml.sax.saxutils import escape

from keychain_auth.platform.plan import MARK, Plan, Request, ServiceFile, Step

_NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_FILE = "task.xml"


def plan(request: Request, account: str) -> Plan:
    """The task of ``account`` (DOMAIN\\NAME). Each account has its own: names of tasks are the machine's."""
    name = task_name(account)
    path = f"{request.config_dir}\\{_FILE}"
    return Plan(
        manager="Task Scheduler, of this account",
        files=(ServiceFile(path, task(request, account), encoding="utf-16"),),
        probe=("schtasks.exe", "/Query", "/FO", "LIST"),
        start=(
            Step(("schtasks.exe", "/Create", "/TN", name, "/XML", path, "/F"), "register the task", needed=True),
            Step(("schtasks.exe", "/Run", "/TN", name), "start the daemon", needed=True),
        ),
        stop=(
            Step(("schtasks.exe", "/End", "/TN", name), "stop the daemon"),
            Step(("schtasks.exe", "/Delete", "/TN", name, "/F"), "forget the task"),
        ),
    )


def task_name(account: str) -> str:
    """The task's path in the library of tasks; what no file can be called is left out of it."""
    plain = "".join(char if char.isalnum() or char in "-_. " else "-" for char in account)
    return f"\\keychain-auth\\{plain}"


def task(request: Request, account: str) -> str:
    """The definition, as the Task Scheduler's schema has it ("Task Scheduler Schema", version 1.2)."""
    program, arguments = request.command[0], list(request.command[1:])
    if request.socket:
        arguments += ["--socket", request.socket]
    if program.lower().endswith("\\python.exe"):
        program = f"{program[:-4]}w.exe"
    who, what, words = escape(account), escape(program), escape(subprocess.list2cmdline(arguments))
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<!-- {MARK}; keychain-auth uninstall removes it -->
<Task version="1.2" xmlns="{_NAMESPACE}">
  <RegistrationInfo>
    <Description>keychain-auth, secrets for programs</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{who}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{who}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfIdle>false</RunOnlyIfIdle>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>10</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{what}</Command>
      <Arguments>{words}</Arguments>
    </Exec>
  </Actions>
</Task>
"""
