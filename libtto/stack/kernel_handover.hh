// The kernel socket behind a descriptor as a handover's target: ttod brings it into and out of repair mode, the queues are
// filled here, by calls that need no capability.
#pragma once

#include "libtto/control/helper_client.hh"
#include "libtto/stack/handover.hh"

namespace tto::stack {

class KernelTarget final : public HandoverTarget {
 public:
  KernelTarget(control::HelperClient& helper, int placeholder) : helper_(helper), fd_(placeholder) {}

  uint64_t begin(const tto_helper_release_item& flow, const tto_helper_restore& restore) override;
  bool restore(Queue queue, const iovec* pieces, int count) override;
  bool restore_window(const RepairWindow& window) override;
  bool restore_fin() override;
  void cancel(uint64_t id) override;
  bool end(uint64_t id, bool is_silent) override;
  bool send(const iovec* pieces, int count) override;
  void shut(int how) override;
  void await_fin() override;

 private:
  control::HelperClient& helper_;
  const int fd_;
};

}  // namespace tto::stack
