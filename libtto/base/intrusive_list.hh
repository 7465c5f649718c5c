// A doubly linked list whose nodes live in their owners: never allocates, a node unlinks itself.
#pragma once

namespace tto {

class IntrusiveNode {
 public:
  IntrusiveNode() = default;
  IntrusiveNode(const IntrusiveNode&) = delete;
  IntrusiveNode& operator=(const IntrusiveNode&) = delete;

  bool is_linked() const { return next_ != this; }
  void unlink() {
    prev_->next_ = next_;
    next_->prev_ = prev_;
    next_ = prev_ = this;
  }

 private:
  friend class IntrusiveList;
  IntrusiveNode* next_ = this;
  IntrusiveNode* prev_ = this;
};

class IntrusiveList {
 public:
  bool empty() const { return !head_.is_linked(); }
  IntrusiveNode* first() { return empty() ? nullptr : head_.next_; }
  /// Null after the last.
  IntrusiveNode* next(IntrusiveNode* n) { return n->next_ == &head_ ? nullptr : n->next_; }
  void push_back(IntrusiveNode& n) {
    n.unlink();
    n.prev_ = head_.prev_;
    n.next_ = &head_;
    head_.prev_->next_ = &n;
    head_.prev_ = &n;
  }
  IntrusiveNode* pop_front() {
    IntrusiveNode* n = first();
    if (n != nullptr) n->unlink();
    return n;
  }

 private:
  IntrusiveNode head_;
};

}  // namespace tto
