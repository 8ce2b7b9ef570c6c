/* The program that no rule asks for, and that ends at once. */
int main(void)
{
    return 0;
}
