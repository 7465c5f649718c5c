// The subcommands of `tto`. Each takes its own arguments (argv[0] is the subcommand) and returns an exit status:
// 0 done, 1 could not, 2 used wrongly.
#pragma once

namespace tto::tools {

int run_command(int argc, char** argv);      // tto run [--profile P] -- CMD…
int stat_command(int argc, char** argv);     // tto stat [PID] [--json]
int explain_command(int argc, char** argv);  // tto explain PID [--json]
int capture_command(int argc, char** argv);  // tto capture PID|all -w FILE
int cleanup_command(int argc, char** argv);  // tto cleanup

}  // namespace tto::tools
