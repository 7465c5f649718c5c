// Connections that a forked process may hold too (DESIGN 2.2): they stay with the process that has the stack until another
// one touches them, or until it closes them itself; then they become the kernel's, in the open file that both have.
//
//   child, first call on it                          owner's progress thread
//   word = {generation, requested}; ticket; doorbell ─▶ hands the connection over
//   futex ◀──────────────────────────── word = {generation, done | gone}
//
// The page of words and tickets is shared memory made with the stack, so that children of any kind of fork can ask; the
// doorbell is the progress thread's eventfd. Whether a child may still hold a connection is known from a pipe for each
// fork: the children's ends close with exec and death. Children can write the page as they like; to the owner it says no
// more than which connection somebody wants.
#pragma once

#include "libtto/stack/fd_table.hh"

namespace tto::stack {

class Stack;

/// With the stack, once. Without memory, children cannot ask.
void make_sharing_page(int doorbell_fd);

// --- the owner's side ------------------------------------------------------------------------------------------------
/// Marks every connection as shared with what is forked next. Under api_lock() and the stack's lock. False: there is no
/// way to know when that child ends; connections are taken for shared for good.
void begin_fork();
void end_fork_in_parent();
/// Under api_lock(): a living child may hold it.
bool is_shared(SocketEntry& entry);
/// Answers a child that waits. Under api_lock(), before the entry changes its generation.
void note_handed_over(SocketEntry& entry);
bool has_sharing_requests();
/// Some forked process may ask. No lock held.
bool has_living_children();
/// Serves what children asked for. No lock held.
void serve_sharing_requests();

// --- the child's side --------------------------------------------------------------------------------------------------
/// Under api_lock(): remembers the parent's page for the entries that are lost here.
void begin_life_as_child();
/// `word` names a connection that stayed with a parent: has it handed over. False: it is no such connection. True: it was
/// asked for; if the word is still the same, it is lost. Blocks, with a bound. No lock held.
bool claim_inherited(int fd, uint64_t word);

}  // namespace tto::stack
