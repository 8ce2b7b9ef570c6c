/* Crashes: the kernel logs its name, at the beginning of the record and at its end. */

int main(void)
{
	return *(volatile int *)8;
}
