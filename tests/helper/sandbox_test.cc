// Every right that ttod keeps says why.
#include "kmod-helper/sandbox.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace ttod {
namespace {

TEST(Sandbox, seccomp_policy__every_line_has_a_reason_and_no_call_is_named_twice) {
  const std::vector<std::string> calls = parse_seccomp_policy(seccomp_policy_text());
  EXPECT_GT(calls.size(), 30u);
  EXPECT_EQ(std::set<std::string>(calls.begin(), calls.end()).size(), calls.size());
}

TEST(Sandbox, seccomp_policy__grants_no_way_to_start_programs_or_reach_other_processes) {
  const std::vector<std::string> calls = parse_seccomp_policy(seccomp_policy_text());
  for (const char* never : {"execve", "execveat", "fork", "vfork", "clone", "clone3", "ptrace", "process_vm_readv",
                            "process_vm_writev", "init_module", "finit_module", "kexec_load", "pidfd_getfd", "reboot"})
    EXPECT_EQ(std::count(calls.begin(), calls.end(), never), 0) << never;
}

TEST(Sandbox, seccomp_policy__bad_lines_are_named) {
  const auto error_of = [](const char* text) -> std::string {
    try {
      parse_seccomp_policy(text);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(error_of("read # the reason\nwrite\n"), "seccomp.policy:2: no reason given");
  EXPECT_EQ(error_of("write #\n"), "seccomp.policy:1: no reason given");
  EXPECT_EQ(error_of("\n# c\nreed # the reason"), "seccomp.policy:3: no such system call");
}

TEST(Sandbox, capabilities__few_and_explained) {
  EXPECT_LE(kept_capabilities().size(), 6u);
  for (const KeptCapability& kept : kept_capabilities()) EXPECT_GT(std::strlen(kept.reason), 8u) << kept.name;
}

}  // namespace
}  // namespace ttod
