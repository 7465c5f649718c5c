// What ttod may still do once it has started: the capabilities of a short table, and the system calls of
// seccomp.policy. Both say for each line why it is there.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ttod {

struct KeptCapability {
  int capability;
  const char* name;
  const char* reason;
};
std::span<const KeptCapability> kept_capabilities();

/// Gives up every other capability, for good (bounding set included), and any gain by exec. Throws std::system_error.
void drop_capabilities();

/// The system calls of a policy text: one name and "# reason" a line. Throws std::runtime_error naming the line.
std::vector<std::string> parse_seccomp_policy(std::string_view text);
/// The policy built in, as it stands in seccomp.policy.
std::string_view seccomp_policy_text();
/// From here on every other system call fails with EPERM. Throws std::runtime_error.
void confine_system_calls();

}  // namespace ttod
