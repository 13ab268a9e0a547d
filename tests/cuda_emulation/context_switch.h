// Switches between stacks and notifies AddressSanitizer. For x86-64 with the System V calling convention.
#pragma once

#include <cstddef>

namespace carillon_emulation {

// A stack that can be left and entered again.
struct Context {
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;  // for AddressSanitizer
  const void* bottom = nullptr;
  std::size_t size = 0;
};

// Prepares `context` to start in entry() on the given stack when it is first switched to. entry must not return.
void prepare(Context& context, void* stack, std::size_t size, void (*entry)());

// Switches to `to`; returns when something switches back to `from`.
void switch_context(Context& from, Context& to);

// Switches to `to`; `from` must never be entered again.
void leave_for_good(Context& from, Context& to);

// Must be the first statement of an entry function; `scheduler` is the context on the thread's own stack.
void entered(Context& scheduler, bool from_scheduler);

}  // namespace carillon_emulation
