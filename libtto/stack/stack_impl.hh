// The inside of a stack. Each part of a turn is a function in the file named beside it.
#pragma once

#include "libtto/memory/export_record.hh"
#include "libtto/stack/slab.hh"
#include "libtto/stack/stack.hh"
#include "libtto/stack/timer_wheel.hh"
#include "libtto/stack/wait_list.hh"
#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::stack {

/// urgent_signal.cc: SIGURG to whom F_SETOWN named for `fd`, if anybody.
void signal_urgent_data(int fd);

struct Stack::Impl {
  using Socket = socket::StreamSocket;
  using Phase = socket::StreamSocket::Phase;

  struct Listener : socket::ListenSocket {
    ListenRequest request;
    bool in_use = false;
    uint32_t life = 0;
  };

  Impl(Stack& stack, const StackConfig& config, const PortBinding& binding, Environment& environment,
       std::atomic<uint64_t>* counters);

  // worker.cc
  size_t receive(Instant now);
  size_t expire(Instant now);
  void push(Instant now);
  void housekeep(Instant now);
  void ask_for_news(Instant now);
  void let_observe(Instant now);
  Instant next_deadline();
  // segment_input.cc: completions to connections, listeners, or nobody.
  void on_completion(device::ReceiveCompletion& completion, Instant now);
  void on_flow_segment(device::ReceiveCompletion& completion, Instant now);
  void on_listener_segment(const device::ReceiveCompletion& completion, Instant now);
  void on_icmp(const device::ReceiveCompletion& completion, Instant now);
  void reply_with_reset(const device::ReceiveCompletion& completion, Instant now);
  static bool may_give_way(const Socket& s, const tcp::SegmentIn& segment);
  void replace_with_child(Socket& old, Listener& listener, const device::ReceiveCompletion& completion, Instant now);
  bool open_child(Listener& listener, const device::ReceiveCompletion& completion, Instant now);
  bool make_room_half_open(Listener& listener, Instant now);
  void refuse_payload_under_pressure(Socket& s, device::ReceiveCompletion& completion);
  Listener* listener_for(const wire::FourTuple& tuple);
  // segment_output.cc: connections to the device.
  bool emit(Socket& s, Instant now);
  bool lets_ride(Socket& s, const tcp::Output& output, Instant now);
  enum class Posted : uint8_t { kYes, kNoRoom, kNoFrame };
  Posted post(Socket& s, const tcp::Output& output, Instant now);
  void commit(Socket& s, Instant now);
  void show_figures(Socket& s);
  // socket_life.cc
  Socket* new_socket(const device::FlowKey& key, const device::PathHeaders& path, Instant now);
  void start(Socket& s, uint32_t send_buffer, uint32_t receive_buffer, const BufferLimits& limits);
  void after_change(Socket& s, Instant now);
  void settle(Socket& s, Instant now);
  void retire(Socket& s);
  void free_retired();
  void free_socket(Socket& s);
  void discard(Socket& s);
  bool evict_time_wait();
  Socket* socket_of(uint64_t cookie);
  Listener* listener_of(uint64_t cookie);
  const tto_helper_nic* nic_of(const device::PathHeaders& path) const;
  void resolve_again(Socket& s, Instant now);

  // handover.cc: connections to the kernel.
  struct HandoverPlan {
    tto_connection_record record{};
    tto_helper_release_item flow{};
    tto_helper_restore restore{};
    RepairWindow window;
    StreamOffset read = 0, receive_end = 0;                // unread
    StreamOffset send_begin = 0, sent_end = 0, send_end = 0;  // sent and not acknowledged; not sent
    bool is_fin_acked = false;
  };
  HandoverResult hand_over(Socket& s, HandoverTarget& target, Instant now);
  void drain_transmit(Instant now);
  HandoverPlan plan_handover(const Socket& s, Instant now) const;
  template <typename Take>
  bool for_each_piece(memory::FrameHandle head, StreamOffset begin, StreamOffset end, Take take);
  bool restore_queues(Socket& s, const HandoverPlan& p, HandoverTarget& target);
  void finish_halves(const Socket& s, const HandoverPlan& p, uint64_t id, HandoverTarget& target);
  void depart(Socket& s, uint64_t id, Instant now);
  bool evict_departed();
  // handover_inject.cc
  void inject(const wire::FourTuple& tuple, uint64_t id, wire::FrameHeaders& headers, std::span<const uint8_t> payload);
  void inject_arrival(const Socket& s, const device::ReceiveCompletion& completion);

  static uint64_t cookie_of(uint32_t life, uint32_t index) { return uint64_t{life} << 32 | index; }
  static Socket* socket_at(IntrusiveNode* node) { return static_cast<socket::SocketLink*>(node)->socket; }

  Stack& stack;
  Environment& environment;
  port::FramePort* port;  // the binding's, or one in front of it that looks on
  PortBinding binding;
  stats::Counters counters;
  memory::FramePool own_pool;
  memory::FramePool& pool;
  socket::SocketShared shared;
  memory::ConnectionSlots slots;
  device::Device device;
  TimerWheel wheel;
  Slab<Socket, 16> sockets;
  Slab<Listener, 8> listeners;
  std::unique_ptr<uint32_t[]> slot_of_flow;  // by flow index
  uint32_t listener_count = 0;               // highest in use + 1
  size_t live_sockets = 0;
  size_t fill_capacity = 0;  // frames that the port can hold ready
  IntrusiveList to_publish;
  IntrusiveList riding;  // sockets whose acknowledgement may ride on what the application sends next
  bool acks_ride = true;
  IntrusiveList retired;
  IntrusiveList departed;   // handed over lately, oldest first
  IntrusiveList time_wait;  // orphans in TIME-WAIT, oldest first
  Instant housekept_at{}, refreshed_at{};  // refreshed: the environment was asked for news
  bool has_slept = false;  // a thread, since the environment was refreshed
  Instant observed_at{};
  uint64_t seen_generation = 0;
  uint32_t resolve_cursor = ~0u;  // ~0: every connection has its path as of seen_generation
  bool has_more_work = false;     // a bound cut the last turn short
  WaitList waiters;
};

}  // namespace tto::stack
