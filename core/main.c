/* SPDX-License-Identifier: Apache-2.0 */
/* core/main.c: argv -> role or command -> loop -> exit code; nothing else. */
int main(void)
{
    return 0;
}
