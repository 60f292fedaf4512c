/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/token_command.h: `outrigger token create`. */
#pragma once

#include "core/plugin.h"

#define STATE_DIR_DEFAULT "./outrigger-state"

extern const struct rig_command token_commands[]; /* ends with { 0 } */
